// Whether a stream is alive, judged by its signs of life. No clock is read here: callers give the time in ms.

const USUAL = 5000;

export class Pulse {
  constructor() {
    this.interval = USUAL;
    this.last = null;
    this.open = false;
  }

  heard(now, kind) {
    if (kind === "heartbeat" && this.last !== null && this.open) {
      this.interval = Math.min(3 * USUAL, Math.max(500, now - this.last));
    }
    this.last = now;
    this.open = true;
  }

  broke() {
    this.open = false;
  }

  began(now) {
    this.last = now;
    this.open = false;
    this.interval = Math.max(this.interval, USUAL);
  }

  // A sign of life is late when two should have come.
  late(now) {
    return this.last !== null && now - this.last > 2 * this.interval + 500;
  }

  alive(now) {
    return this.open && !this.late(now);
  }
}
