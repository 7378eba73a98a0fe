import { UnsupportedFeatureError } from './errors.ts';

/** What may be asked of a platform; see `AcquireOptions`. */
export interface PlatformOptions {
  readonly adapter?: string;
  readonly unchecked?: boolean;
  readonly onNotice?: (line: string) => void;
}

/** The platform's WebGPU: in browsers, `navigator.gpu`. Which adapter it is, the browser decides. */
export function platformGpu({ unchecked = false }: PlatformOptions): Promise<GPU> {
  if (unchecked) {
    return Promise.reject(
      new UnsupportedFeatureError(
        'browsers always check what shaders index: leave out the option `unchecked`',
      ),
    );
  }
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
