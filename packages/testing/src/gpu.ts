import { nodeGpu } from '@ensample/tensor/node';

/** The GPU that tests run on: `ENSAMPLE_ADAPTER` names the driver, SwiftShader from npm is the default. */
export function testGpu(): Promise<GPU> {
  return nodeGpu({ adapter: process.env['ENSAMPLE_ADAPTER'] || 'SwiftShader' });
}

/** Dawn without a driver: validates every shader and every call, and computes nothing. */
export function nullGpu(): Promise<GPU> {
  return nodeGpu({ backend: 'null' });
}
