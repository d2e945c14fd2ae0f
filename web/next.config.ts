import { PHASE_DEVELOPMENT_SERVER } from "next/constants";
import type { NextConfig } from "next";

const shared: NextConfig = {
  trailingSlash: true,
  reactStrictMode: true,
  turbopack: { root: import.meta.dirname },
  experimental: {
    optimizePackageImports: ["radix-ui", "lucide-react"],
    // The export is a dozen pages; more processes cost more to start than they save.
    cpus: 1,
  },
};

/** The development server forwards to a running API; the export needs no server of its own. */
export default function config(phase: string): NextConfig {
  if (phase !== PHASE_DEVELOPMENT_SERVER) return { ...shared, output: "export" };
  const api = process.env.IOTLINKER_API_URL ?? "http://127.0.0.1:8000";
  return {
    ...shared,
    skipTrailingSlashRedirect: true,
    rewrites: async () => [
      { source: "/api/:path*", destination: `${api}/api/:path*` },
      { source: "/ws/:path*", destination: `${api}/ws/:path*` },
    ],
  };
}
