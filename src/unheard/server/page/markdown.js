// The Markdown of a model card as elements: headings, paragraphs, lists, tables, code, bold, links. Nothing in it can
// become anything else: text is only ever set as text.

const INLINE = /\*\*(.+?)\*\*|`(.+?)`|\[(.+?)\]\((https?:\/\/[^\s)]+)\)/g;
const FENCED = /^```[^`\n]*\n([\s\S]*?)(?:^```[ \t]*$|(?![\s\S]))/m; // one never closed goes on to the end

function inline(parent, text) {
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    parent.append(text.slice(last, match.index));
    const [whole, bold, code, label, address] = match;
    const made = document.createElement(bold ? "b" : code ? "code" : "a");
    made.textContent = bold ?? code ?? label;
    if (address) Object.assign(made, { href: address, rel: "noreferrer", target: "_blank" });
    parent.append(made);
    last = match.index + whole.length;
  }
  parent.append(text.slice(last));
  return parent;
}

const make = (name, text = "") => inline(document.createElement(name), text);
const cells = (line) => line.replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function tableOf(lines) {
  const table = document.createElement("table");
  lines.filter((line) => !/^\|[\s:|-]+$/.test(line)).forEach((line, index) => {
    const row = table.insertRow();
    for (const cell of cells(line)) row.append(make(index ? "td" : "th", cell));
  });
  const box = document.createElement("div");
  box.className = "scroll";
  box.append(table);
  return box;
}

function listOf(lines) {
  const list = document.createElement("ul");
  for (const line of lines) {
    if (/^[-*] /.test(line)) list.append(make("li", line.slice(2)));
    else if (list.lastChild) inline(list.lastChild, ` ${line.trim()}`);
  }
  return list;
}

function codeOf(text) {
  const box = document.createElement("pre");
  const code = document.createElement("code");
  box.className = "scroll";
  code.textContent = text;
  box.append(code);
  return box;
}

// The elements of a card; its YAML front matter, which is for machines, is left out.
export function render(text) {
  const parts = text.replace(/^---\n[\s\S]*?\n---\n/, "").split(FENCED); // every second one is code
  return parts.flatMap((part, index) => (index % 2 ? [codeOf(part)] : prose(part)));
}

function prose(text) {
  const blocks = text.split(/\n\s*\n|\n(?=#)|(?<=^#.*)\n/m);
  return blocks.map((block) => block.trim()).filter(Boolean).map((block) => {
    const lines = block.split("\n");
    const heading = /^(#+) (.*)/.exec(block);
    if (heading) return make(`h${Math.min(6, heading[1].length + 2)}`, heading[2]);
    if (block.startsWith("|")) return tableOf(lines);
    if (/^[-*] /.test(block)) return listOf(lines);
    return make("p", lines.join(" "));
  });
}
