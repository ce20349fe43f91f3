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
    if (!(error instanceof UnloadableFileError)) throw error;
    console.error(`barter: ${error.message}`);
    process.exit(2);
  });
  if (typeof model === 'function') models[name] = new (model as new () => DeviceModel)();
  else if (typeof model === 'object' && model !== null) models[name] = model as DeviceModel;
  else {
    console.error(`barter: ${file} has no default export: it would be a device's class (docs/writing-a-device.md)`);
    process.exit(2);
  }
}
const { devices, stop } = serveDevices(models, folder);
process.once('SIGINT', stop).once('SIGTERM', stop);
console.log(JSON.stringify({ devices }));
