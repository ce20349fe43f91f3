/** A request that its client gives up after a while: docs/exploring-your-own-code.md walks through it. */
import { Cell, Lifetime, type Program, type Stage, spawn, type Task } from 'barter';

class Request {
  readonly state = new Cell<'queued' | 'running' | 'done' | 'timed out'>('state', 'queued');
  /** What the server writes to, and the client frees. */
  readonly buffer = new Lifetime('buffer');

  *serve(): Task {
    if (!(yield* this.state.compareExchange('queued', 'running'))) return;
    this.buffer.check('a write of the server');
    yield* this.state.store('done');
  }

  /** Gives up what has not been begun. */
  *expire(): Task {
    yield* this.state.compareExchange('queued', 'timed out');
  }

  *call(): Task {
    const timer = yield* spawn('timer', this.expire());
    yield* this.state.waitUntil((state) => state === 'done' || state === 'timed out');
    this.buffer.end();
    yield* timer.join();
  }
}

/** Gives up what may be under way. */
class HastyRequest extends Request {
  override *expire(): Task {
    yield* this.state.store('timed out');
  }
}

function between(request: Request, stage: Stage): void {
  stage.spawn('client', request.call());
  stage.spawn('server', request.serve());
}

export const request: Program = {
  name: 'request',
  summary: 'a request that times out, or is served',
  build: (stage) => between(new Request(), stage),
};

export const hasty: Program = {
  name: 'hasty',
  summary: 'the same with a timer that does not look whether the server has begun',
  build: (stage) => between(new HastyRequest(), stage),
};
