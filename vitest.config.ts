import { defineConfig } from 'vitest/config';

/** Workspace packages are imported from their sources: no build is needed to run a test. */
const conditions = ['@ensample/source'];

/** The driver of the tests, unless one is named: SwiftShader from npm is to be had everywhere. */
process.env['ENSAMPLE_ADAPTER'] ||= 'SwiftShader';

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'apps/*/test/**/*.test.ts'],
    exclude: process.env['ENSAMPLE_LONG'] ? [] : ['**/*.long.test.ts'],
    pool: 'forks',
    maxWorkers: 2, // software drivers use every core themselves
    // Compiling a tier's kernels for the first time takes lavapipe up to a minute, with other tests beside it.
    testTimeout: 180_000,
    hookTimeout: 180_000,
  },
});
