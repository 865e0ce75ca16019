/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The balancer serves the bundle and writes the page around it (balancer/admin/pages.py) from the manifest.
// Paths are relative, so that other programs can serve the same bundle elsewhere.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    manifest: true,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rolldownOptions: { input: { editor: "src/editor/main.tsx" } },
  },
  server: { proxy: { "/admin/api": process.env.LB_URL ?? "http://127.0.0.1:8090" } },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
