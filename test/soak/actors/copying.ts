/** An engine that copies into lent memory that is taken back in the midst of copies; every byte is checked. */
import { CopyLoad } from '../../vfio-user/copy-load.ts';
import { type Actor, repeat } from './actor.ts';

export const copying: Actor = (stage) =>
  repeat(stage, 'copying', () => {
    const load = new CopyLoad(stage.path('source'), stage.path('engine'), stage.random);
    for (let i = 0; i < 20 && stage.goesOn(); i++) load.round();
    load.close();
  });
