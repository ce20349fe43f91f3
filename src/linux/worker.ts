import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * Starts a module of this package in a thread of its own, where it may block in system calls. `module` is its path
 * without an extension, relative to the module that calls, whose `import.meta.url` is `base`: both are TypeScript, or both
 * are built.
 *
 * The main thread must stay free until the worker has said that it runs (a first postMessage): a worker loads its
 * modules with the main thread's help, and waiting for it in a blocking call waits for ever.
 */
export function startWorker(module: string, base: string, options: Omit<WorkerOptions, 'eval'> = {}): Worker {
  if (!base.endsWith('.ts')) return new Worker(new URL(`${module}.js`, base), options);
  // Node 20 does not give a worker the loader that takes the types away, so the thread registers it before it imports
  // the module. A worker from a string resolves names from the working directory, which may be anywhere.
  const source = `import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then(({ register }) => {
    register();
    return import(${JSON.stringify(new URL(`${module}.ts`, base).href)});
  });`;
  return new Worker(source, { ...options, eval: true });
}
