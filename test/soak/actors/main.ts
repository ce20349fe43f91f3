/** The process of one actor: NAME SOCKET-DIR FOLDER SEED SECONDS. Its last line counts what it did, as JSON. */
import { type Actor, ActorStage } from './actor.ts';

const MODULES: Record<string, () => Promise<Actor>> = {
  lending: async () => (await import('./lending.ts')).lending,
  copying: async () => (await import('./copying.ts')).copying,
  guests: async () => (await import('./guests.ts')).guests,
  moving: async () => (await import('./moving.ts')).moving,
  hostile: async () => (await import('./hostile.ts')).hostile,
  servers: async () => (await import('./servers.ts')).servers,
};

const [name, socketDir, folder, seed, seconds] = process.argv.slice(2);
const stage = new ActorStage(socketDir, folder, Number(seed), Number(seconds));
const actor = await MODULES[name]();
await actor(stage);
console.log(JSON.stringify(Object.fromEntries(stage.done)));
