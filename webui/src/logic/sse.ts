// Server-sent events out of a byte stream: as much of the format as the balancer writes (one data line an event).

/** Feed it text as it comes; it answers the data of every `state` event that is complete. */
export class EventReader {
  private rest = "";

  feed(text: string): { event: string; data: string }[] {
    const blocks = (this.rest + text).split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.flatMap((block) => {
      let event = "message";
      let data: string | null = null;
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) event = line.slice(7);
        else if (line.startsWith("data: ")) data = data === null ? line.slice(6) : `${data}\n${line.slice(6)}`;
      }
      return data === null ? [] : [{ event, data }];
    });
  }
}
