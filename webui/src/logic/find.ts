// Finding by a few letters: all words must occur, better where a word begins.

export function ranked<T>(text: string, all: readonly T[], of: (each: T) => string): T[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [...all];
  return all
    .map((each, place) => ({ each, place, score: scoreOf(words, of(each).toLowerCase()) }))
    .filter(({ score }) => score > 0)
    .sort((one, other) => other.score - one.score || one.place - other.place)
    .map(({ each }) => each);
}

function scoreOf(words: readonly string[], text: string): number {
  let score = 0;
  for (const word of words) {
    const at = text.indexOf(word);
    if (at < 0) return 0;
    if (at === 0) score += 4;
    else if (/[\s\-·.:/]/.test(text.charAt(at - 1))) score += 2;
    else score += 1;
  }
  return score;
}
