/** Reads machine files. A valid file builds, serves and attaches; an impossible machine is refused with the reason. */
import { findAddressProblem } from './check/addresses.ts';
import { findDeviceProblem } from './check/devices.ts';
import { findPortProblem } from './check/ports.ts';
import { type MachineDescription, machineSchema } from './schema.ts';
import { parseYaml, readDocument } from './yaml.ts';

/** Loads a machine file. DocumentError names file, line, field and reason. */
export function loadMachine(path: string): MachineDescription {
  return parseMachine(readDocument(path), path);
}

/** Parses a machine description; `path` names it in errors. */
export function parseMachine(text: string, path: string): MachineDescription {
  return parseYaml(
    text,
    path,
    machineSchema,
    (machine) => findPortProblem(machine) ?? findDeviceProblem(machine) ?? findAddressProblem(machine),
  );
}
