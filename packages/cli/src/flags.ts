import { tiers, type TierName } from '@ensample/tensor';
import { InvalidArgumentError, Option, type Command } from 'commander';

/** Flags of every command that opens a device. */
export interface DeviceFlags {
  readonly adapter?: string;
  readonly tier?: TierName;
  readonly unchecked?: boolean;
}

type OpeningFlags = { readonly [Flag in 'adapter' | 'unchecked']?: DeviceFlags[Flag] | undefined };

/** Adds the flags of {@link DeviceFlags} and `--json`, `--model`. */
export function addCommonFlags(command: Command): Command {
  return command
    .option('--model <place>', 'folder or URL of a Hugging Face model (default: js-22m, which is built in)')
    .option('--adapter <name>', "part of the adapter's name (default: the fastest)")
    .addOption(
      new Option('--tier <name>', 'capability tier (default: the best there is)').choices(Object.keys(tiers)),
    )
    .option('--unchecked', 'shaders do not check bounds: faster, for models that you trust')
    .option('--json', 'print JSON');
}

/** The flags that say which GPU and how, as options of what opens it. */
export function gpuOptions({ adapter, unchecked }: OpeningFlags): { adapter?: string; unchecked?: boolean } {
  return { ...(adapter === undefined ? {} : { adapter }), ...(unchecked === undefined ? {} : { unchecked }) };
}

/** A flag's number. The engine checks its range. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

/** One more value of a flag that may be repeated. */
export function oneMore(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** Numbers with commas between them; the flag may be repeated. */
export function moreNumbers(text: string, before: readonly number[] = []): number[] {
  return [...before, ...text.split(',').map(number)];
}

/** `id=value` with commas between them; the flag may be repeated. */
export function moreBiases(text: string, before: Record<number, number> = {}): Record<number, number> {
  const pairs = text.split(',').map((pair) => {
    const [id, value, ...rest] = pair.split('=');
    if (id === undefined || value === undefined || rest.length > 0) {
      throw new InvalidArgumentError('It must be token ids with their biases, such as 13=-100,42=2.5.');
    }
    return [number(id), number(value)] as const;
  });
  return { ...before, ...Object.fromEntries(pairs) };
}
