// `npm run docs`: builds the site from the pages and from the comments of the public API, into site/dist/. Options go
// to VitePress, for example `--base /barter/` for a site that is not at the root of its host.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const options = process.argv.slice(2);

/** Steps, each with the command of its tool. */
const STEPS = [
  ['API reference', 'typedoc', ['--options', 'site/typedoc.json']],
  ['site', 'vitepress', ['build', 'site', ...options]],
];

// Pages of names that are gone would stay.
rmSync(join(root, 'site/api'), { recursive: true, force: true });
for (const [title, tool, args] of STEPS) {
  const started = Date.now();
  console.log(`${title} ...`);
  // The tools' output is shown if they fail; what they print on the way says nothing.
  const env = { ...process.env, NO_COLOR: '1' };
  const { status, error, stdout, stderr } = spawnSync(join(root, 'node_modules/.bin', tool), args, {
    cwd: root,
    env,
    encoding: 'utf8',
  });
  if (status !== 0) {
    console.error(`${stdout ?? ''}${stderr ?? ''}${error?.message ?? ''}`.trimEnd());
    console.error(`${title}: ${tool} failed; see above`);
    process.exit(1);
  }
  console.log(`${title}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}
console.log('The site is in site/dist/. "npx vitepress preview site" serves it.');
