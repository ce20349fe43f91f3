/** Root ports and the ports of switches: the tree between the host bridge and the functions. */
import type { PciFunction } from './function.ts';

/** Bits of the ACS control register that send requests upstream (PCIe 4.0, 7.7.8.3). */
export interface AcsControl {
  requestRedirect: boolean;
  completionRedirect: boolean;
  egressControl: boolean;
}

export type PortKind = 'root' | 'upstream' | 'downstream';

export class Port {
  readonly name: string;
  readonly kind: PortKind;
  readonly parent: Port | null;
  readonly acs: AcsControl;
  /** Below an upstream port: downstream ports. Below the others: functions, or one upstream port. */
  readonly ports: Port[] = [];
  readonly functions: PciFunction[] = [];
  secondaryBus = 0;
  subordinateBus = 0;

  constructor(name: string, kind: PortKind, parent: Port | null, acs: Partial<AcsControl> = {}) {
    this.name = name;
    this.kind = kind;
    this.parent = parent;
    this.acs = { requestRedirect: false, completionRedirect: false, egressControl: false, ...acs };
    parent?.ports.push(this);
  }

  /** pci_bridge_has_acs_redir. */
  get redirects(): boolean {
    return this.acs.requestRedirect || this.acs.completionRedirect || this.acs.egressControl;
  }

  functionsBelow(): PciFunction[] {
    return [...this.functions, ...this.ports.flatMap((port) => port.functionsBelow())];
  }

  /** From this port to the root port. */
  *path(): Generator<Port> {
    for (let port: Port | null = this; port !== null; port = port.parent) yield port;
  }
}

/**
 * Whether a request reaches its target before the root complex. On the way up, the first port above both routes it down
 * again, unless an earlier port redirects requests upstream.
 */
export function reachesBelowRoot(requester: PciFunction, target: PciFunction): boolean {
  const below = new Set(target.parent!.path());
  for (const port of requester.parent!.path()) {
    if (below.has(port)) return true;
    if (port.acs.requestRedirect) return false;
  }
  return false;
}
