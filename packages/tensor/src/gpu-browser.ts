import { UnsupportedFeatureError } from './errors.ts';

/** The platform's WebGPU: in browsers, `navigator.gpu`. Which adapter it is, the browser decides. */
export function platformGpu(_options: { adapter?: string; onNotice?: (line: string) => void }): Promise<GPU> {
  const gpu = (globalThis.navigator as { gpu?: GPU } | undefined)?.gpu;
  if (gpu) return Promise.resolve(gpu);
  const secure = globalThis.isSecureContext;
  return Promise.reject(
    new UnsupportedFeatureError(
      secure
        ? 'this browser has no WebGPU: use a current Chrome, Edge, Firefox or Safari, or switch WebGPU on in its settings'
        : 'WebGPU needs a secure page: serve it over https, or from localhost',
    ),
  );
}
