export function RevisionLog() {
  return <p className="empty">RevisionLog</p>;
}
