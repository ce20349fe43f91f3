#!/usr/bin/env node
// The command runs its TypeScript as it is; tsx takes the types away when a file is loaded.
import { register } from 'tsx/esm/api';

register();
const { main } = await import('../src/cli/main.ts');
await main(process.argv);
