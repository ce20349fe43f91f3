/** Lets the lab's QEMU attach devices of an in-process server through relays, until its firmware has read them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { QEMU_ENVIRONMENT, qemuProgram, qemuVersion } from '../../lab/host/qemu.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { TapSink } from '../../src/vfio-user/wire/tap.ts';
import { InProcessServer } from './in-process.ts';
import { Relay } from './relay.ts';
import { formatTranscript } from './transcript.ts';

const RAM = '64M';
/** After so long a silence the firmware has finished: it waits for a disk that does not exist. */
const QUIET_MS = 8000;
const MAX_MS = 120_000;

/** Returns a transcript for each device by name. `tap` hears the server's messages meanwhile. */
export async function recordQemu(machine: MachineDescription, tap?: TapSink): Promise<Map<string, string>> {
  const server = new InProcessServer(machine, undefined, tap);
  const relays = new Map(
    machine.devices.map(({ name }) => {
      const path = join(server.folder, `${name}.relay`);
      return [name, { path, relay: new Relay(server.server.loop, path, server.path(name)) }];
    }),
  );
  const devices = [...relays.values()].flatMap(({ path }, i) => [
    '-device',
    `pcie-root-port,id=port${i},chassis=${i + 1},addr=0x${(i + 8).toString(16)}`,
    '-device',
    JSON.stringify({ driver: 'vfio-user-pci', bus: `port${i}`, socket: { type: 'unix', path } }),
  ]);
  const [command, ...args] = qemuProgram();
  const qemu = spawn(
    command,
    [
      ...[...args, '-M', 'q35,memory-backend=ram', '-accel', 'tcg', '-m', RAM, '-nodefaults', '-display', 'none'],
      ...['-object', `memory-backend-memfd,id=ram,size=${RAM},share=on`, ...devices],
    ],
    { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...QEMU_ENVIRONMENT() } },
  );
  const exit = once(qemu, 'exit');
  const began = performance.now();
  const isQuiet = () =>
    [...relays.values()].every(
      ({ relay }) => relay.exchanges.length > 10 && performance.now() - relay.lastAtMs > QUIET_MS,
    );
  while (!isQuiet() && performance.now() - began < MAX_MS && qemu.exitCode === null) {
    server.server.loop.turn(20);
    await sleep(0);
  }
  const title = `QEMU ${await qemuVersion()} attaches`;
  const texts = [...relays].map(([name, { relay }]): [string, string] => [
    name,
    formatTranscript(`${title} ${name}, and its firmware looks at it`, relay.exchanges),
  ]);
  qemu.kill('SIGKILL');
  await exit;
  for (const { relay } of relays.values()) relay.close();
  server.close();
  return new Map(texts);
}
