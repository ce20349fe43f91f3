/** The states on the path of a reduction, and their form as plain data for other threads and for files. */

import type { PlannedStep } from '../world/access.ts';
import type { ScopeEntry } from '../world/invariant-scopes.ts';
import type { PlainBranch, PlainScopeEntry, PlainStep, StepNames } from './plain-steps.ts';
import type { Branch } from './wakeup.ts';

/** A state on the current path, before the step at its depth. */
export interface PathNode {
  /** Steps that were explored from here or before, and with which no later step conflicts. */
  sleep: PlannedStep[];
  /** Orders still to be run from here, without the one that runs now. */
  branches: Branch[];
  /** The branches planned after the step that runs now. */
  next: Branch[];
  /** For `source`: tasks that were or will be run from here. */
  started: number[];
  explored: number;
  /** The step that runs now, as it turned out. */
  taken: PlannedStep | null;
}

interface PlainNode {
  sleep: PlainStep[];
  branches: PlainBranch[];
  started: string[];
  explored: number;
  taken: PlainStep | null;
}

/** The position of a reduction between two runs. */
export interface PathState {
  nodes: PlainNode[];
  /** The branch to continue with from the last node; null before the first run. */
  chosen: PlainBranch | null;
  base: number;
  /** The objects that invariants look at. */
  looks: PlainScopeEntry[];
}

export class PlainPath {
  private readonly names: StepNames;

  constructor(names: StepNames) {
    this.names = names;
  }

  stateOf(path: readonly PathNode[], chosen: Branch | null, base: number, looks: readonly ScopeEntry[]): PathState {
    const nodes = path.map((node) => this.plainNode(node, node.sleep, node.branches));
    return {
      nodes,
      chosen: chosen === null ? null : this.names.plainBranch(chosen),
      base,
      looks: this.names.plainLooks(looks),
    };
  }

  /**
   * Makes the part after a line of steps from the state at `depth`. `sleep` are the steps that sleep when the part is
   * run. The states before it tell which races with their steps are new.
   */
  partOf(
    path: readonly PathNode[],
    depth: number,
    sleep: readonly PlannedStep[],
    line: readonly Branch[],
    looks: readonly ScopeEntry[],
  ): PathState {
    const nodes = path
      .slice(0, depth + 1)
      .map((node, at) => this.plainNode(node, at === depth ? sleep : node.sleep, []));
    nodes[depth].taken = null;
    const chosen = line.reduceRight<PlainBranch[]>(
      (children, { step }) => [{ step: this.names.plain(step), children }],
      [],
    );
    return { nodes, chosen: chosen[0], base: depth + line.length, looks: this.names.plainLooks(looks) };
  }

  restore({ nodes, chosen, base, looks }: PathState): {
    nodes: PathNode[];
    chosen: Branch | null;
    base: number;
    looks: ScopeEntry[];
  } {
    const { names } = this;
    return {
      nodes: nodes.map(({ sleep, branches, started, explored, taken }) => ({
        sleep: sleep.map((step) => names.step(step)),
        branches: branches.map((branch) => names.branch(branch)),
        next: [],
        started: started.map((task) => names.taskOf(task)),
        explored,
        taken: taken === null ? null : names.step(taken),
      })),
      chosen: chosen === null ? null : names.branch(chosen),
      base,
      looks: names.looks(looks),
    };
  }

  private plainNode(node: PathNode, sleep: readonly PlannedStep[], branches: readonly Branch[]): PlainNode {
    const { names } = this;
    return {
      sleep: sleep.map((step) => names.plain(step)),
      branches: branches.map((branch) => names.plainBranch(branch)),
      started: node.started.map((task) => names.taskName(task)),
      explored: node.explored,
      taken: node.taken === null ? null : names.plain(node.taken),
    };
  }
}
