export function Tokens() {
  return <p className="empty">Tokens</p>;
}
