import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * Starts a module of this package in a thread of its own, where it may block in system calls. `module` is its path
 * without an extension, relative to the calling module, whose `import.meta.url` is `base`. Both are TypeScript, or both
 * are built.
 *
 * The main thread must stay free until the worker has announced that it runs (a first postMessage). A worker loads its
 * modules with the main thread's help, so a blocking wait for it never ends.
 */
export function startWorker(module: string, base: string, options: Omit<WorkerOptions, 'eval'> = {}): Worker {
  if (!base.endsWith('.ts')) return new Worker(new URL(`${module}.js`, base), options);
  // Node 20 does not pass the loader that strips types to a worker. The thread therefore registers it before it imports
  // the module. A worker from a string resolves names from the working directory, which may be any folder.
  const source = `import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then(({ register }) => {
    register();
    return import(${JSON.stringify(new URL(`${module}.ts`, base).href)});
  });`;
  return new Worker(source, { ...options, eval: true });
}
