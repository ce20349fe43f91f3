/** `barter`: all of its parts. Each part has an entry of its own, which says what is in it. */
export * from './api/client.ts';
export * from './api/device.ts';
export * from './api/explore.ts';
export * from './api/machine.ts';
export * from './api/tasks.ts';
