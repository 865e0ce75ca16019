// Numbers as people read them: short, of steady width, never "NaN".

/** 12345 -> "12.3k", 12 -> "12". Three digits at most. */
export function compact(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 999_950_000) return `${digits(value / 1e9)}G`;
  if (size >= 999_950) return `${digits(value / 1e6)}M`;
  if (size >= 999.5) return `${digits(value / 1e3)}k`;
  return Number.isInteger(value) ? String(value) : digits(value);
}

function digits(value: number): string {
  const size = Math.abs(value);
  if (size >= 99.95 || value === 0) return value.toFixed(0);
  if (size < 0.05) return "<0.1";
  return value.toFixed(1);
}

/** A rate: "0" stays "0", what is small shows that it is not nothing. */
export function rate(value: number): string {
  return compact(value);
}

/** 38.4 -> "38.4 %", 100 -> "100 %". */
export function percent(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return "– %";
  return `${Number.isInteger(value) || value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} %`;
}

/** A length of time: "0.08 ms", "212 ms", "3.4 s", "2 min". */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  const milliseconds = seconds * 1000;
  if (milliseconds < 10) return `${milliseconds.toFixed(2)} ms`;
  if (milliseconds < 999.5) return `${milliseconds.toFixed(0)} ms`;
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** Seconds that run down: "12 s", "3:05". */
export function countdown(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 100) return `${whole} s`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** How long ago an ISO time was: "4 s ago". */
export function ago(iso: string | null, nowMilliseconds: number): string {
  if (!iso) return "never";
  const seconds = Math.max(0, (nowMilliseconds - Date.parse(iso)) / 1000);
  if (seconds < 1) return "just now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

/** The time of day with tenths, in the reader's own zone. */
export function clock(iso: string): string {
  const at = new Date(iso);
  const two = (value: number) => String(value).padStart(2, "0");
  const tenths = Math.floor(at.getMilliseconds() / 100);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${tenths}`;
}

/** "1 request", "3 requests". */
export function count(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

/** Host and port of a base URL; the whole text when it is none. */
export function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}

/** As a sentence: begun large, ended with a stop; nothing stays nothing. */
export function sentence(text: string): string {
  const begun = begunLarge(text.trim());
  return !begun || /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

export function begunLarge(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
