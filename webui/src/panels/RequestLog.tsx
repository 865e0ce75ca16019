export function RequestLog() {
  return <p className="empty">RequestLog</p>;
}
