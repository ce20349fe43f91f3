/**
 * Serves a program's own devices on vfio-user sockets, on the calling thread, in turn with the program's other work.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceModel } from '../device/model.ts';
import { memfdMemory } from '../linux/bar-memory.ts';
import { BoundedOutput } from '../linux/bounded-output.ts';
import { Fabric, type HostBridge } from '../pci/fabric.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Memory } from '../pci/memory.ts';
import { Port } from '../pci/port.ts';
import { buildVfioDevices } from '../vfio/driver.ts';
import { PROFILES } from '../vfio/profile.ts';
import { VfioUserServer } from '../vfio-user/server/server.ts';
import type { Log } from '../vfio-user/wire/log.ts';
import { functionOf } from './build.ts';
import { screenPath } from './screen/protocol.ts';
import { ScreenServer } from './screen/server.ts';
import type { DeviceSockets } from './serve-worker.ts';

const STDERR = new BoundedOutput(2, { lost: (lines) => `${lines} lines were lost` });

/** Devices that this thread serves. */
export interface ServedDevices {
  /** The name of each device, and the path of its socket. */
  readonly devices: readonly DeviceSockets[];
  /** Ends every connection and removes the sockets. */
  stop(): void;
  /** Resolves after `stop`. */
  readonly ended: Promise<void>;
}

/** A client wakes the server at once. The program's timers, signals and promises run at least this often in between. */
const TURN_MS = 20;
const HOST: HostBridge = { vendorId: 0x8086, deviceId: 0x29c0, cpuVendor: 'amd', cpuFamily: 0x17, busOffset: 0 };

/**
 * Serves each model at socketDir/NAME.sock (0600), each below a root port of its own, and the screen of one that has a
 * screen at NAME.screen. `log` gets the reasons why clients were dropped, and defects. EADDRINUSE when another server
 * listens there.
 */
export function serveDevices(
  models: Readonly<Record<string, DeviceModel>>,
  socketDir: string,
  log: Log = (line) => STDERR.write(line),
): ServedDevices {
  mkdirSync(socketDir, { recursive: true, mode: 0o700 });
  const memories: Memory[] = [];
  const functions = plugIn(models, memories);
  const server = new VfioUserServer(log);
  const screens: ScreenServer[] = [];
  const devices = [...buildVfioDevices(functions, PROFILES.default)].map(([name, vdev]) => {
    const socket = join(socketDir, `${name}.sock`);
    server.serve(vdev, socket);
    const { screen } = models[name];
    if (screen === undefined) return { name, socket };
    screens.push(new ScreenServer(server.loop, screen, screenPath(socket)));
    return { name, socket, screen: screenPath(socket) };
  });
  let isStopped = false;
  const ended = new Promise<void>((resolve) => {
    const turn = (): void => {
      if (!isStopped) {
        server.loop.turn(TURN_MS);
        setImmediate(turn);
        return;
      }
      for (const screen of screens) screen.close();
      server.stop();
      server.run();
      for (const memory of memories) memory.close();
      resolve();
    };
    setImmediate(turn);
  });
  const stop = (): void => {
    isStopped = true;
  };
  return { devices, stop, ended };
}

function plugIn(models: Readonly<Record<string, DeviceModel>>, memories: Memory[]): Map<string, PciFunction> {
  const functions = new Map<string, PciFunction>();
  const ports: Port[] = [];
  for (const [name, model] of Object.entries(models)) {
    const fn = functionOf(name, model, (label, sizeBytes) => {
      const memory = memfdMemory(label, sizeBytes);
      memories.push(memory);
      return memory;
    });
    const port = new Port(`root of ${name}`, 'root', null, NO_ACS);
    port.functions.push(fn);
    ports.push(port);
    functions.set(name, fn);
  }
  new Fabric(HOST, ports);
  return functions;
}

const NO_ACS = { requestRedirect: false, completionRedirect: false, egressControl: false };
