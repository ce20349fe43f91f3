/** The rules for ports beyond the schema: they form a tree of root ports and switches, with a bus for each. */
import type { MachineDescription } from '../schema.ts';
import type { Problem } from '../yaml.ts';

/** Each port has a bus below it, bus 0 has the root ports, and a bus number has 8 bits. */
const MAX_PORTS = 255;
/** A bus has devices 0 to 31. The host bridge takes one on bus 0; the bus inside a switch has all for its ports. */
const MAX_ROOT_PORTS = 31;
const MAX_DOWNSTREAM_PORTS = 32;

export function findPortProblem({ ports }: MachineDescription): Problem | null {
  const kinds = new Map<string, string>();
  const children = new Map<string, number>();
  let roots = 0;
  for (const [i, port] of ports.entries()) {
    const at = (field: string, message: string): Problem => ({ path: ['ports', i, field], message });
    const { name, kind, parent } = port;
    if (kinds.has(name)) return at('name', `the name ${name} is taken`);
    if (i === MAX_PORTS) return at('name', `a machine has ${MAX_PORTS} ports at most: each has a bus of its own`);
    if (kind === 'root') {
      if (parent !== undefined) return at('parent', 'a root port has no parent');
      roots += 1;
      if (roots > MAX_ROOT_PORTS) return at('kind', `there are ${MAX_ROOT_PORTS} root ports at most on bus 0`);
    } else {
      if (parent === undefined) return at('parent', `it is missing, and only a root port has none`);
      const message = findParentProblem(kind, parent, kinds.get(parent), children.get(parent) ?? 0);
      if (message !== null) return at('parent', message);
      children.set(parent, (children.get(parent) ?? 0) + 1);
    }
    kinds.set(name, kind);
  }
  return null;
}

function findParentProblem(
  kind: 'upstream' | 'downstream',
  parent: string,
  parentKind: string | undefined,
  siblings: number,
): string | null {
  if (parentKind === undefined) return `there is no port ${parent} before this one`;
  if (kind === 'downstream') {
    if (parentKind !== 'upstream') return `a downstream port is below an upstream port, and ${parent} is another`;
    return siblings >= MAX_DOWNSTREAM_PORTS ? `a switch has ${MAX_DOWNSTREAM_PORTS} downstream ports at most` : null;
  }
  if (parentKind === 'upstream') return `an upstream port is below a root or downstream port, and ${parent} is another`;
  return siblings > 0 ? `there is a switch in ${parent} already` : null;
}
