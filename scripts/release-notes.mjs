// Prints a version's section of CHANGELOG.md: node scripts/release-notes.mjs 0.1.0
import { readFileSync } from 'node:fs';

const [version] = process.argv.slice(2);
const changelog = readFileSync(new URL('../CHANGELOG.md', import.meta.url), 'utf8');
const section = changelog
  .split(/^## /m)
  .find((text) => text.startsWith(`${version} `) || text.startsWith(`${version}\n`));
if (section === undefined) {
  console.error(`CHANGELOG.md has no section for ${version}; add "## ${version} (date)"`);
  process.exit(1);
}
console.log(section.split('\n').slice(1).join('\n').trim());
