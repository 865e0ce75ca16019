/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Balancer and load tester serve the bundle and write the pages around it (balancer/web/pages.py) from the manifest.
// Paths are relative, so that each can serve it where it likes.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    manifest: true,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rolldownOptions: { input: { editor: "src/editor/main.tsx", loadtest: "src/loadtest/main.tsx" } },
  },
  server: {
    proxy: {
      "/admin/api": process.env.LB_URL ?? "http://127.0.0.1:8090",
      "/api": process.env.LT_URL ?? "http://127.0.0.1:8088",
    },
  },
  // Some try thousands of cases: on a busy machine that takes longer than the five seconds of the default.
  test: { include: ["tests/**/*.test.ts"], environment: "node", testTimeout: 30_000 },
});
