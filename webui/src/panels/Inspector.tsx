export function Inspector() {
  return <p className="empty">Inspector</p>;
}
