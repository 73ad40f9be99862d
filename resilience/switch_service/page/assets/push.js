// The stream of versions: opened again by itself, after errors and after silence.

import { Pulse } from "./pulse.js";

const RETRY = 1000;

export class Push {
  constructor(scope, { version, moved }) {
    this.url = `/v1/config/${scope}/events`;
    this.version = version;
    this.moved = moved;
    this.pulse = new Pulse();
    this.was = null;
    this.retrying = 0;
    this.open();
    this.watching = setInterval(() => this.look(), 250);
  }

  open() {
    this.retrying = 0;
    this.source?.close();
    this.pulse.began(performance.now());
    const source = new EventSource(this.url);
    this.source = source;
    const heard = (kind) => (event) => {
      if (source !== this.source) return;
      this.pulse.heard(performance.now(), kind);
      this.look();
      if (kind === "version") this.version(JSON.parse(event.data));
    };
    source.addEventListener("version", heard("version"));
    source.addEventListener("heartbeat", heard("heartbeat"));
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.pulse.broke();
      this.look();
      source.close(); // its own pause before the next attempt differs between browsers
      this.again();
    });
  }

  again() {
    if (this.retrying === 0) this.retrying = setTimeout(() => this.open(), RETRY);
  }

  look() {
    const now = performance.now();
    if (this.pulse.late(now)) {
      this.pulse.broke();
      this.again();
    }
    const alive = this.pulse.alive(now);
    if (alive !== this.was) {
      this.was = alive;
      this.moved(alive);
    }
  }

  close() {
    clearInterval(this.watching);
    clearTimeout(this.retrying);
    this.source.close();
    this.source = null;
  }
}
