/**
 * A program that serves the user's devices: `device-server.ts FOLDER NAME=FILE ...`. Each file's default export is a
 * device model's class, or a device model.
 */
import type { DeviceModel } from '../../src/device/model.ts';
import { importUserModule, UnloadableFileError } from '../../src/linux/user-module.ts';
import { serveDevices } from '../../src/machine/serve-devices.ts';

const [folder, ...words] = process.argv.slice(2);
const models: Record<string, DeviceModel> = {};
for (const word of words) {
  const at = word.indexOf('=');
  const [name, file] = [word.slice(0, at), word.slice(at + 1)];
  const { default: model } = await importUserModule(file).catch((error: unknown) => {
    if (error instanceof UnloadableFileError) refuse(error.message);
    return refuse(`${file} cannot be loaded: ${reasonOf(error)}`);
  });
  if (typeof model === 'function') models[name] = new (model as new () => DeviceModel)();
  else if (typeof model === 'object' && model !== null) models[name] = model as DeviceModel;
  else refuse(`${file} has no default export: it would be a device's class (docs/writing-a-device.md)`);
}
const { devices, stop } = served();
process.once('SIGINT', stop).once('SIGTERM', stop);
console.log(JSON.stringify({ devices }));

function served(): ReturnType<typeof serveDevices> {
  try {
    return serveDevices(models, folder);
  } catch (error) {
    return refuse(`${words.join(' ')} cannot be served: ${reasonOf(error)}`);
  }
}

/** The stack is of the user's own file, and so is printed on request. */
function reasonOf(error: unknown): string {
  if (process.env.BARTER_DEBUG !== undefined) console.error(error);
  const [first] = (error instanceof Error ? error.message : String(error)).split('\n');
  return `${first}; BARTER_DEBUG=1 shows where`;
}

function refuse(why: string): never {
  console.error(`barter: ${why}`);
  process.exit(2);
}
