export function Charts() {
  return <p className="empty">Charts</p>;
}
