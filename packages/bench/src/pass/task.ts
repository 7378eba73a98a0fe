/** A function to be completed, and what it has to return. */
export interface Task {
  /** What the function does: its doc comment. */
  readonly doc: string;
  /** Name and parameters, e.g. `max(a, b)`. */
  readonly signature: string;
  /** Pairs of JavaScript expressions: a call, and the value that it must have. */
  readonly tests: readonly (readonly [call: string, expected: string])[];
}

/** The name of a task's function. */
export function nameOf({ signature }: Task): string {
  return signature.slice(0, signature.indexOf('('));
}

/** A task's function up to its body. */
export function headOf({ signature }: Task): string {
  return `function ${signature} {\n`;
}

/** What the model continues: doc comment and head. */
export function promptOf(task: Task): string {
  return `/** ${task.doc} */\nexport ${headOf(task)}`;
}
