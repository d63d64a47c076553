// Search in pages that were opened from disk: browsers start no worker from file://, so a hidden
// frame takes its place. It has what Material's search uses of a worker: messages both ways, and
// importScripts, which returns a promise here.
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "Search";
      document.body.append(frame);
      const inner = frame.contentWindow;
      const waiting = [];
      this.postMessage = (data) => waiting.push(data);
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const load = (source) =>
        new Promise((done, failed) => {
          const script = inner.document.createElement("script");
          script.src = new URL(source, location.href);
          script.onload = done;
          script.onerror = failed;
          inner.document.body.append(script);
        });
      inner.importScripts = (...sources) =>
        sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
      load(address).then(() => {
        this.postMessage = (data) => inner.dispatchEvent(new MessageEvent("message", { data }));
        waiting.forEach((data) => this.postMessage(data));
      });
    }
  };
}
