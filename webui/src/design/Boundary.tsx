// What goes wrong while one panel is drawn stays in that panel.

import { Component, type ReactNode } from "react";
import { Button } from "./parts";

interface Props {
  /** Another one is another attempt. */
  of: string;
  children: ReactNode;
}

export class Boundary extends Component<Props, { problem: string | null }> {
  override state = { problem: null };

  static getDerivedStateFromError(error: unknown): { problem: string } {
    return { problem: error instanceof Error ? error.message : String(error) };
  }

  override componentDidUpdate(before: Props): void {
    if (before.of !== this.props.of && this.state.problem !== null) this.setState({ problem: null });
  }

  override render(): ReactNode {
    const { problem } = this.state;
    if (problem === null) return this.props.children;
    return (
      <div className="empty" role="alert">
        <p>This could not be shown: {problem}</p>
        <p className="muted">Everything else goes on. If the balancer was just updated, reload the page.</p>
        <Button onClick={() => this.setState({ problem: null })}>Try again</Button>
      </div>
    );
  }
}
