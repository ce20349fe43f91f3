/** QEMU attaches devices, its firmware enumerates them, and QEMU detaches, or is killed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { QEMU_ENVIRONMENT, qemuProgram } from '../../../lab/host/qemu.ts';
import { type Actor, repeat } from './actor.ts';

const DEVICES = ['guest-memory', 'guest-engine'];
/** The firmware sizes the BARs and switches the devices on within about this time. */
const MAX_LIFE_MS = 3000;

export const guests: Actor = (stage) =>
  repeat(stage, 'guest', async () => {
    const [command, ...args] = qemuProgram();
    const devices = DEVICES.flatMap((device) => [
      '-device',
      JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path: stage.path(device) } }),
    ]);
    const memory = ['-object', 'memory-backend-memfd,id=ram,size=64M,share=on', '-M', 'q35,memory-backend=ram'];
    const quiet = ['-m', '64M', '-nodefaults', '-display', 'none', '-qmp', 'stdio'];
    const child = spawn(command, [...args, ...memory, ...quiet, ...devices], {
      env: { ...process.env, ...QEMU_ENVIRONMENT() },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.on('error', () => {});
    const ended = once(child, 'exit');
    // QEMU sends its greeting after every device is attached.
    await Promise.race([once(child.stdout, 'data'), ended]);
    child.stdout.resume();
    if (child.exitCode !== null) throw new Error(`QEMU ended with ${child.exitCode}`);
    stage.did('guest: attached');
    await sleep(stage.random.below(MAX_LIFE_MS));
    if (stage.random.chance(3)) child.kill('SIGKILL');
    else child.stdin.write('{"execute":"qmp_capabilities"}\n{"execute":"system_reset"}\n{"execute":"quit"}\n');
    await ended;
  });
