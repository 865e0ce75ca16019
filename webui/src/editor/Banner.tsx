// The line to the balancer, when there is something to say about it.

import { useEffect, useState } from "react";
import { Button, Icon } from "../design/parts";
import { countdown } from "../logic/format";
import { useEditor, useNumbers, useSession } from "../state/context";

export function Banner() {
  const editor = useEditor();
  const link = useSession((state) => state.link);
  const frozen = useNumbers((state) => state.frozen);
  if (link.kind === "offline") {
    return (
      <div className="banner bad">
        <Icon name="warning" />
        <span className="grow">
          {/* The seconds stand outside: they are not read out as they run. */}
          <span role="alert">
            <strong>{link.problem}</strong> What you see may be old; nothing you arranged is lost.
          </span>{" "}
          Trying again in <Until at={link.retryAt} />.
        </span>
        <Button tight onClick={() => editor.live.retryNow()}>
          Try now
        </Button>
      </div>
    );
  }
  if (!frozen) return null;
  return (
    <div className="banner warn">
      <Icon name="pause" />
      <span className="grow">The live numbers stand still. Traffic goes on.</span>
      <Button tight onClick={() => editor.numbers.setState({ frozen: false })}>
        Go on
      </Button>
    </div>
  );
}

function Until({ at }: { at: number }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  return <>{countdown((at - now) / 1000)}</>;
}
