"""The only script of the page: it copies a figure's table as CSV, and unfolds all before the page is printed."""

from __future__ import annotations

import base64
import hashlib

# Without it the tables are there all the same: the buttons stay hidden. Where the browser refuses the clipboard (a page
# in a frame, no permission) the table is selected, so that Ctrl+C copies it.
SCRIPT = """
"use strict";
(function () {
  function csv(table) {
    return Array.from(table.rows, function (row) {
      return Array.from(row.cells, function (cell) {
        var text = cell.textContent;
        return /[",\\r\\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
      }).join(",") + "\\n";
    }).join("");
  }
  function select(table) {
    var range = document.createRange();
    range.selectNodeContents(table);
    var selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }
  Array.from(document.querySelectorAll("button[data-table]"), function (button) {
    var table = document.getElementById(button.dataset.table);
    var said = button.nextElementSibling;
    button.hidden = false;
    button.addEventListener("click", function () {
      var copied = navigator.clipboard ? navigator.clipboard.writeText(csv(table)) : Promise.reject();
      copied.then(function () {
        said.textContent = "Copied " + (table.rows.length - 1) + " rows.";
      }, function () {
        button.closest("details").open = true;
        select(table);
        said.textContent = "Selected. Press Ctrl+C to copy.";
      });
    });
  });
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    opened.forEach(function (one) { one.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (one) { one.open = false; });
  });
})();
"""


def script_hash() -> str:
    """Return the script's hash as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode("utf-8")).digest()).decode("ascii")
