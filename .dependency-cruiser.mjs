// Which file may import which, for `npm run check`; docs/architecture.md, "The folders", gives the reasons.

/** Folders of src/, highest first. A folder imports from itself and from those after it. */
export const FOLDERS = [
  'api',
  'cli',
  'web',
  'report',
  'lint',
  'demo',
  'verify',
  'explore',
  'reproduce',
  'scenario',
  'drivers',
  'conform',
  'machine',
  'vfio-user',
  'linux',
  'device',
  'vfio',
  'dma-buf',
  'iommu',
  'pci',
  'task',
  'abi',
];

/** Files that import an optional peer of the package, and say so where it is missing. */
const OPTIONAL_PEERS = ['src/linux/user-module.ts', 'src/explore/queue/'];

/** Two classes of these folders define each other: a function and its port, a task and its runner. */
const MAY_CIRCLE = ['src/pci/', 'src/task/'];

const oneOf = (names) => `^(${names.join('|')})`;

export default {
  forbidden: [
    ...FOLDERS.slice(1).map((folder, i) => ({
      name: `${folder}-imports-downward`,
      comment: `src/${folder} imports only from the folders below it (docs/architecture.md, "The folders").`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: oneOf(FOLDERS.slice(0, i + 1).map((above) => `src/${above}/`)) },
    })),
    {
      name: 'folder-is-known',
      comment: 'Every folder of src/ has a place in FOLDERS of .dependency-cruiser.mjs, and in docs/architecture.md.',
      severity: 'error',
      from: { pathNot: '^node_modules/' },
      to: { path: '^src/[^/]+/', pathNot: oneOf(FOLDERS.map((folder) => `src/${folder}/`)) },
    },
    {
      name: 'index-is-for-users',
      comment: 'src/index.ts is what users import. The sources import the file that has the name.',
      severity: 'error',
      from: { path: '^(src/(?!index)|lab|bench)' },
      to: { path: '^src/index\\.ts$' },
    },
    {
      name: 'library-stands-alone',
      comment: 'Of src/, only the command line reaches out, to lab/ and bench/.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/cli/' },
      to: { path: '^(lab|bench|test|examples)/' },
    },
    {
      name: 'command-line-is-on-top',
      comment: 'Nothing but a test imports the command line.',
      severity: 'error',
      from: { path: '^(lab|bench|examples)/' },
      to: { path: '^src/cli/' },
    },
    {
      name: 'tests-are-for-tests',
      comment: 'Only tests import from test/.',
      severity: 'error',
      from: { pathNot: '^test/' },
      to: { path: '^test/' },
    },
    {
      name: 'no-circles',
      comment: 'No two files import each other, directly or round about, types included.',
      severity: 'error',
      from: {},
      to: { circular: true, via: { pathNot: oneOf(MAY_CIRCLE) } },
    },
    {
      name: 'what-is-imported-exists',
      comment: 'A file that is imported exists. dist/ and its vendor/ exist after a build.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: '^[./]*(dist|vendor)/' },
    },
    {
      name: 'packages-are-declared',
      comment: 'A package that the sources import is one that package.json names.',
      severity: 'error',
      from: { path: '^(src|lab|bench)/', pathNot: oneOf(OPTIONAL_PEERS) },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-development-packages',
      comment: 'What users install imports no package that is there for development only.',
      severity: 'error',
      from: { path: '^(src|lab|bench)/', pathNot: oneOf(OPTIONAL_PEERS) },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'], pathNot: '^node_modules/@types/' },
    },
  ],
  options: {
    // Imports of types count. TypeScript 6 parses the files, since the native compiler has no API for it yet.
    tsPreCompilationDeps: true,
    doNotFollow: { path: '^(node_modules|dist)/' },
    exclude: { path: '^dist/' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.mjs', '.cjs', '.js', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['barter-source', 'import', 'node', 'default', 'types'],
    },
  },
};
