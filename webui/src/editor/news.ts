// Tells a screen reader when an endpoint's state turns, never the ticks in between.

import { useEffect } from "react";
import { type Status, statusOf } from "../logic/status";
import { useEditor } from "../state/context";

export function useNews(): void {
  const editor = useEditor();
  useEffect(() => {
    let before = new Map<number, Status["tone"]>();
    return editor.numbers.subscribe(({ numbers }) => {
      // What the server holds, and not what is being saved: the numbers do not know of that yet.
      const { server } = editor.flow.getState();
      if (!server) return;
      const now = new Map<number, Status["tone"]>();
      const news: string[] = [];
      for (const endpoint of server.endpoints) {
        const status = statusOf(endpoint, numbers.endpoints.get(endpoint.id));
        now.set(endpoint.id, status.tone);
        const was = before.get(endpoint.id);
        // Full and not full follow each other all the time.
        const turned = was !== undefined && was !== status.tone && !(isUp(was) && isUp(status.tone));
        if (turned) news.push(`${endpoint.name}: ${status.word}. ${status.explanation}`);
      }
      before = now;
      if (news.length) editor.announce(news.join(" "));
    });
  }, [editor]);
}

function isUp(tone: Status["tone"]): boolean {
  return tone === "good" || tone === "busy";
}
