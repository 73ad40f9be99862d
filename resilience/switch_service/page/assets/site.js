// What the page knows of one scope, and how it keeps up: pushed versions, and looks at instances in between.

import * as api from "./api.js";
import { HOURS } from "./view_levels.js";
import { spread } from "./model.js";
import { Push } from "./push.js";

const OFTEN = 1000;
const SELDOM = 3000;

export class Site {
  constructor(scope, session, { changed, linked, trouble }) {
    this.scope = scope;
    this.session = session;
    this.changed = changed;
    this.trouble = trouble;
    this.may = session.role === "operator" || session.role === "admin";
    this.document = { version: 0, epoch: 0, items: {} };
    this.history = [];
    this.older = [];
    this.instances = [];
    this.levels = [];
    this.audit = [];
    this.busy = null;
    this.again = false;
    this.closed = false;
    this.push = new Push(scope, {
      version: () => this.refresh().catch(trouble),
      moved: (alive) => {
        linked(alive);
        if (alive) this.refresh().catch(trouble);
        else this.standing();
      },
    });
    this.timer = setTimeout(() => this.look(), OFTEN);
  }

  // One refresh at a time; one that is asked for meanwhile runs after it, so that what it brings is later than the asking.
  refresh() {
    if (this.busy !== null) {
      this.next ??= this.busy.catch(() => null).then(() => {
        this.next = null;
        return this.refresh();
      });
      return this.next;
    }
    this.busy = this.load().finally(() => {
      this.busy = null;
    });
    return this.busy;
  }

  async load() {
    const [document, history] = await Promise.all([api.config(this.scope), api.history(this.scope)]);
    const oldest = history.at(-1)?.version ?? 0;
    this.document = document;
    this.history = [...history, ...this.older.filter((each) => each.version < oldest)];
    await this.fleet();
    this.changed();
  }

  async fleet() {
    const since = new Date(Date.now() - HOURS * 3600_000).toISOString();
    const audit = this.session.role === "admin" ? api.audit() : Promise.resolve({ entries: [] });
    const [instances, levels, { entries }] = await Promise.all([api.instances(this.scope), api.levels(this.scope, since), audit]);
    this.instances = instances;
    this.levels = levels;
    this.audit = entries;
  }

  async look() {
    let pause = SELDOM;
    try {
      if (this.busy === null) await this.fleet();
      this.changed();
      const { heard, there } = spread(this.instances, this.document.epoch, this.document.version);
      pause = there < heard ? OFTEN : SELDOM;
    } catch (error) {
      this.standing(error);
    }
    if (!this.closed) this.timer = setTimeout(() => this.look(), pause);
  }

  // The stream breaks when a session has ended, too: then the page must say so instead of trying for ever.
  async standing(error) {
    try {
      if (error === undefined) await api.session();
      else if (error.status === 401) this.trouble(error);
    } catch (found) {
      if (found.status === 401) this.trouble(found);
    }
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.push.close();
  }
}
