#!/usr/bin/env node
// The command runs its TypeScript as it is; tsx takes the types away when a file is loaded. A server starts from one
// file.
let main = null;
if (process.argv[2] === 'serve') {
  const { bundledMain } = await import('../scripts/bundle.mjs');
  const bundle = await bundledMain();
  if (bundle !== null) ({ main } = await import(bundle));
}
if (main === null) {
  const { register } = await import('tsx/esm/api');
  register();
  ({ main } = await import('../src/cli/main.ts'));
}
await main(process.argv);
