/** What the host asks the agent in the guest, line by line in JSON. */
import type { RunResult } from '../src/scenario/run.ts';
import type { Scenario } from '../src/scenario/step.ts';

export interface AgentCalls {
  /** uname -r, and what is on the bus. */
  hello: { parameters: Record<string, never>; result: { release: string; devices: string[] } };
  /** Binds devices to vfio-pci by their addresses. */
  bind: { parameters: { addresses: string[] }; result: null };
  /**
   * Runs a scenario on the guest's kernel; `addresses` are the devices that it names, opened through their own nodes
   * if `byCdev` says so. `ms` has an entry for each step.
   */
  scenario: {
    parameters: { scenario: Scenario; addresses: Record<string, string>; byCdev?: boolean };
    result: RunResult & { ms: number[] };
  };
  /** The machine files of devices as `barter capture` writes them. */
  capture: { parameters: { addresses: string[] }; result: Record<string, string> };
  /** Copies by a device's DMA engine, inside of its driver's memory; gives how many bytes were wrong after each. */
  memcpy: { parameters: { address: string; copies: MemoryCopy[] }; result: number[] };
  /** A command of the guest's shell: its status and output. */
  shell: { parameters: { command: string }; result: { status: number | null; stdout: string; stderr: string } };
}

/** Offsets in memory that holds a pattern. */
export interface MemoryCopy {
  from: number;
  to: number;
  length: number;
  seed: number;
}

export interface AgentReply {
  id: number;
  result?: unknown;
  error?: string;
}
