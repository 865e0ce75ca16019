export function SettingsOverview() {
  return <p className="empty">SettingsOverview</p>;
}
