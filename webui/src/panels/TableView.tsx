export function TableView() {
  return <p className="empty">TableView</p>;
}
