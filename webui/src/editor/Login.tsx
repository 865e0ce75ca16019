// The editor's login.

import { LoginPage } from "../design/Login";
import { useEditor } from "../state/context";

export function Login({ again }: { again: boolean }) {
  const editor = useEditor();
  return (
    <LoginPage title="LLM balancer" token="Admin token" again={again} onLogin={(token) => editor.login(token)}>
      Log in with the admin token: <span className="mono">LB_ADMIN_TOKEN</span>, or the one the balancer wrote when it
      first started.
    </LoginPage>
  );
}
