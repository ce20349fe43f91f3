/** Reads machine files and checks what the schema cannot: that names are unique and refer to something. */
import { existsSync, readFileSync } from 'node:fs';
import { type MachineDescription, machineSchema } from './schema.ts';
import { DocumentError, type Problem, parseYaml } from './yaml.ts';

/** Loads a machine file. DocumentError names file, line and field. */
export function loadMachine(path: string): MachineDescription {
  if (!existsSync(path)) throw new DocumentError(`${path}: there is no such file`);
  return parseMachine(readFileSync(path, 'utf8'), path);
}

/** Parses a machine description; `path` is for the errors. */
export function parseMachine(text: string, path: string): MachineDescription {
  return parseYaml(text, path, machineSchema, findProblem);
}

function findProblem(machine: MachineDescription): Problem | null {
  return findPortProblem(machine) ?? findDeviceProblem(machine);
}

function findPortProblem(machine: MachineDescription): Problem | null {
  const kinds = new Map<string, string>();
  for (const [i, port] of machine.ports.entries()) {
    const at = (field: string, message: string): Problem => ({ path: ['ports', i, field], message });
    if (kinds.has(port.name)) return at('name', `the name ${port.name} is taken`);
    const parent = port.parent === undefined ? undefined : kinds.get(port.parent);
    if (port.kind === 'root' && port.parent !== undefined) return at('parent', 'a root port has no parent');
    if (port.kind === 'upstream' && parent !== 'root' && parent !== 'downstream') {
      return at('parent', 'an upstream port is below a root or downstream port that is listed before it');
    }
    if (port.kind === 'downstream' && parent !== 'upstream') {
      return at('parent', 'a downstream port is below an upstream port that is listed before it');
    }
    kinds.set(port.name, port.kind);
  }
  return null;
}

function findDeviceProblem(machine: MachineDescription): Problem | null {
  const ports = new Map(machine.ports.map((port) => [port.name, port]));
  const names = new Set<string>();
  for (const [i, device] of machine.devices.entries()) {
    const at = (path: PropertyKey[], message: string): Problem => ({ path: ['devices', i, ...path], message });
    if (names.has(device.name)) return at(['name'], `the name ${device.name} is taken`);
    names.add(device.name);
    const port = ports.get(device.port);
    if (port === undefined) return at(['port'], `there is no port ${device.port}`);
    if (port.kind === 'upstream') return at(['port'], `${device.port} is the upstream port of a switch`);
    if (machine.ports.some((other) => other.parent === port.name)) return at(['port'], `a switch is in ${device.port}`);
    if (machine.devices.filter((other) => other.port === port.name).length > 8) {
      return at(['port'], `more than 8 functions are in ${device.port}`);
    }
    if (device.model === 'ioat') continue;
    const { physfn } = device;
    if (physfn !== undefined && (physfn === device.name || !names.has(physfn))) {
      return at(['physfn'], `a virtual function comes after its physical one, and there is no ${physfn} before it`);
    }
    const slots = new Set<number>();
    for (const [j, bar] of device.bars.entries()) {
      const taken = bar.kind === 'mem64' ? [bar.index, bar.index + 1] : [bar.index];
      if (taken.some((slot) => slots.has(slot) || slot > 5)) {
        return at(['bars', j, 'index'], `BAR ${bar.index} is taken, or its upper half has no place`);
      }
      for (const slot of taken) slots.add(slot);
      if (bar.kind !== 'mem64' && bar.size > 2 ** 31) return at(['bars', j, 'size'], 'it needs a 64-bit BAR');
    }
    const msix = device.model === 'memory' ? device.capabilities.msix : undefined;
    if (msix !== undefined && !device.bars.some((bar) => bar.index === msix.bar)) {
      return at(['capabilities', 'msix', 'bar'], `there is no BAR ${msix.bar}`);
    }
  }
  return null;
}
