import type { Sample, StreamEvent } from '@ensample/runtime';

interface Card {
  readonly item: HTMLLIElement;
  readonly title: HTMLHeadingElement;
  readonly text: Text;
  tokens: number;
}

/** A card for each sample: it grows while tokens come, and takes its place when all are ranked. */
export class SampleCards {
  readonly #list: HTMLOListElement;
  #cards: Card[] = [];

  constructor(list: HTMLOListElement) {
    this.#list = list;
  }

  /** New cards, which begin with the last line of the prompt. */
  start(count: number, prompt: string): void {
    const given = prompt.slice(prompt.lastIndexOf('\n') + 1);
    this.#cards = Array.from({ length: count }, (_, index) => createCard(index, given));
    this.#list.replaceChildren(...this.#cards.map(({ item }) => item));
  }

  take(event: Exclude<StreamEvent, { type: 'result' }>): void {
    const card = this.#cards[event.index];
    if (!card) return;
    if (event.type === 'token') {
      card.text.data += event.text;
      card.title.textContent = `sample ${event.index} · ${++card.tokens} tokens`;
    } else {
      card.title.textContent = facts(event.sample);
    }
  }

  /** Puts the cards into the order of the samples, the best first. */
  rank(samples: readonly Sample[]): void {
    samples.forEach((sample, place) => {
      const card = this.#cards[sample.index];
      if (!card) return;
      card.title.textContent = `#${place + 1} · ${facts(sample)}`;
      card.item.classList.toggle('best', place === 0);
      card.item.dataset['finishReason'] = sample.finishReason;
      this.#list.append(card.item);
    });
  }
}

function facts({ index, meanLogprob, finishReason, tokens }: Sample): string {
  const reason = { stop: 'ended', length: 'cut at the limit', time: 'out of time' }[finishReason];
  return `sample ${index} · ${meanLogprob.toFixed(3)} · ${reason} · ${tokens.length} tokens`;
}

function createCard(index: number, given: string): Card {
  const item = document.createElement('li');
  const title = document.createElement('h3');
  const code = document.createElement('pre');
  const before = document.createElement('span');
  const after = document.createElement('span');
  const text = document.createTextNode('');
  item.className = 'sample';
  item.dataset['index'] = String(index);
  title.textContent = `sample ${index}`;
  before.className = 'given';
  before.textContent = given;
  after.className = 'drawn';
  after.append(text);
  code.append(before, after);
  item.append(title, code);
  return { item, title, text, tokens: 0 };
}
