'use strict';
// The page asks the daemon for its status every 2 seconds and for the last hour
// every 5, and draws what has changed. It puts no text of others into markup.

const $ = id => document.getElementById(id);
const colours = 8;
const version = document.querySelector('meta[name=version]').content;

// make makes an element of a kind with a class and a text.
function make(kind, cls, text) {
  const e = document.createElement(kind);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
}

function drawn(kind, attributes) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', kind);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
}

// ask fetches JSON; 401 shows the login.
async function ask(path) {
  let r;
  try { r = await fetch(path); } catch { throw new Error('the daemon on this host does not answer; see `onevoice status` there'); }
  if (r.status === 401) { login(true); throw new Error(''); }
  if (!r.ok) throw new Error((await r.text()).trim() || r.statusText);
  return r.json();
}

async function send(method, path, body) {
  const r = await fetch(path, { method, headers: { 'Content-Type': 'application/json', 'Onevoice-Page': version }, body: body && JSON.stringify(body) });
  if (!r.ok) throw new Error((await r.text()).trim() || r.statusText);
}

function login(needed) {
  $('login').hidden = !needed;
  $('main').hidden = needed;
  if (needed && document.activeElement === document.body) $('token').focus();
}

function trouble(text) {
  $('trouble').hidden = !text;
  if ($('trouble').textContent !== text) $('trouble').textContent = text;
}

const number = n => n.toLocaleString('en', { maximumFractionDigits: n < 10 && n % 1 ? 1 : 0 });

function bytes(n) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let u = 0;
  while (n >= 1000 && u < units.length - 1) { n /= 1000; u++; }
  return `${number(n)} ${units[u]}`;
}

function time(s) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const [size, unit] = units.find(([size]) => s >= size) || units[3];
  return `${Math.floor(s / size)} ${unit}`;
}

// colourOf is a node's class: by its place, so that it stays when others die.
function colourOf(nodes, address) {
  const i = nodes.findIndex(n => n.address === address);
  return i < 0 ? 'none' : `f${i % colours}`;
}

// The ring: one arc for each bucket, joined where neighbours have one owner.
let ringNow = '';
function ring(s) {
  const tables = Object.keys(s.table || {}).filter(t => t !== 'vip').sort();
  const select = $('table');
  if ([...select.options].map(o => o.value).join() !== tables.join()) {
    const chosen = select.value;
    select.replaceChildren(...tables.map(t => new Option(t.replace('vip/', 'VIP '), t)));
    if (tables.includes(chosen)) select.value = chosen;
  }
  const owners = (s.table || {})[select.value] || [];
  const key = owners.join() + s.nodes.map(n => n.address + n.name).join();
  if (key === ringNow) return;
  ringNow = key;
  const svg = $('ring'), shares = new Map();
  svg.replaceChildren();
  const at = (i, r) => {
    const a = 2 * Math.PI * i / owners.length - Math.PI / 2;
    return `${(r * Math.cos(a)).toFixed(2)} ${(r * Math.sin(a)).toFixed(2)}`;
  };
  owners.forEach((owner, i) => {
    shares.set(owner, (shares.get(owner) || 0) + 1);
    const path = drawn('path', {
      d: `M${at(i, 104)}A104 104 0 0 1 ${at(i + 1, 104)}L${at(i + 1, 66)}A66 66 0 0 0 ${at(i, 66)}Z`,
      class: colourOf(s.nodes, owner),
    });
    const title = drawn('title', {});
    title.textContent = `bucket ${i}: ${nameOf(s.nodes, owner)}`;
    path.append(title);
    svg.append(path);
  });
  const middle = drawn('text', { y: 2 }), below = drawn('text', { y: 18 });
  middle.textContent = owners.length;
  below.textContent = 'buckets';
  svg.append(middle, below);
  $('ring-text').textContent = s.nodes.filter(n => !n.witness)
    .map(n => `${n.name} ${shares.get(n.address) || 0}`).concat(shares.get('') ? [`nobody ${shares.get('')}`] : []).join(' · ');
}

function nameOf(nodes, address) {
  const n = nodes.find(n => n.address === address);
  return n ? n.name : 'nobody';
}

// stateClass: words in capitals are none to leave alone.
const stateClass = state => state === 'serving' || state === 'witness' ? 'good' : state === state.toUpperCase() ? 'bad' : '';

// The list of nodes is made once for each set of nodes, and its texts are changed
// in place, so that what has the keyboard keeps it.
let listed = '';
function nodes(s) {
  const key = s.nodes.map(n => n.id).join() + s.may_change;
  if (key !== listed) {
    listed = key;
    $('node-list').replaceChildren(...s.nodes.map(n => nodeItem(s, n)));
  }
  s.nodes.forEach((n, i) => nodeTexts(s, n, $('node-list').children[i]));
  $('read-only').hidden = s.may_change;
}

function nodeItem(s, n) {
  const li = make('li');
  li.dataset.node = n.name;
  const name = make('span', 'name');
  name.append(make('span', '', n.name), ' ', make('small'));
  const bar = make('div', 'bar');
  bar.append(make('i'));
  li.append(make('span', 'dot ' + (n.witness ? 'none' : colourOf(s.nodes, n.address))), name, make('span', 'state'), bar, make('span', 'facts'));
  if (s.may_change && !n.witness) li.append(nodeActions(n.name));
  return li;
}

function nodeActions(name) {
  const act = make('span', 'act');
  const drain = make('button', 'drain');
  drain.type = 'button';
  const weight = make('input', 'weight');
  weight.type = 'number'; weight.min = 0; weight.max = 10000; weight.id = `weight-${name}`;
  const label = make('label', '', 'Weight');
  label.htmlFor = weight.id;
  const set = make('button', 'set', 'Set');
  set.type = 'button';
  set.setAttribute('aria-label', `Set the weight of ${name}`);
  drain.addEventListener('click', () => {
    const undo = drain.dataset.undo === 'yes';
    wish(undo ? `Let ${name} take its share again?` : `Drain ${name}? The others take its buckets; its sessions go on until they end.`,
      undo ? 'Take it back' : 'Drain it', { do: undo ? 'undrain' : 'drain', node: name });
  });
  set.addEventListener('click', () => wish(`Give ${name} the weight ${weight.value}? All begin with 100.`, 'Set it', { do: 'weight', node: name, weight: Number(weight.value) }));
  act.append(drain, label, weight, set);
  return act;
}

function nodeTexts(s, n, li) {
  const q = sel => li.querySelector(sel);
  const say = (e, text) => { if (e.textContent !== text) e.textContent = text; };
  say(q('small'), `${n.address}${n.leader ? ' · leads' : ''}${n.self ? ' · this node' : ''}`);
  say(q('.state'), n.state);
  q('.state').className = `state ${stateClass(n.state)}`;
  const fill = q('.bar i');
  fill.className = colourOf(s.nodes, n.address);
  fill.style.width = `${n.buckets / 2.56}%`;
  q('.bar').hidden = n.witness;
  const drains = Object.values(n.drains_of || {}).reduce((a, b) => a + b, 0);
  const facts = n.witness ? [] : [`${n.buckets} buckets`];
  if (drains) facts.push(`older flows in ${drains}`);
  const told = !n.witness && n.told_seconds_ago >= 0 && n.told_seconds_ago < 30;
  if (told && n.flows >= 0) facts.push(n.flows === 1 ? '1 flow' : `${number(n.flows)} flows`);
  if (!n.witness) facts.push(`epoch ${n.epoch}`);
  if (!n.self) facts.push(n.heard_seconds_ago < 0 ? 'never heard' : `heard ${n.heard_seconds_ago < 1 ? 'now' : time(n.heard_seconds_ago) + ' ago'}`);
  const unheard = s.nodes.filter(o => o.id !== n.id && o.in && !o.witness && !(n.hears || []).includes(o.name)).map(o => o.name);
  // One that is out and speaks is often out for what it does not hear.
  if (told && (n.in || n.heard_seconds_ago >= 0 && n.heard_seconds_ago < 1) && unheard.length) facts.push(`does not hear ${unheard.join(', ')}`);
  if (n.percent < 100 && !n.witness) facts.push(`${n.percent} % by its load`);
  if (n.down && n.down.length) facts.push(`down: ${n.down.join(', ')}`);
  say(q('.facts'), facts.join(' · '));
  const drain = q('.drain');
  if (!drain) return;
  drain.dataset.undo = n.draining ? 'yes' : 'no';
  say(drain, n.draining ? 'Take back' : 'Drain');
  drain.setAttribute('aria-label', `${n.draining ? 'Take back' : 'Drain'} ${n.name}`);
  const weight = q('.weight');
  if (document.activeElement !== weight && weight.dataset.is !== String(n.weight)) {
    weight.value = n.weight;
    weight.dataset.is = String(n.weight);
  }
}

// wish asks for something after the person was asked.
function wish(question, yes, body) {
  $('question').textContent = question;
  $('yes').textContent = yes;
  const dialog = $('ask');
  dialog.returnValue = 'no';
  dialog.onclose = async () => {
    if (dialog.returnValue !== 'yes') return;
    try { await send('POST', 'v1/wish', body); refused = ''; } catch (e) { refused = `${body.do} ${body.node}: ${e.message}`; }
    look();
  };
  dialog.showModal();
}
let refused = '';

function services(s) {
  $('services').querySelector('tbody').replaceChildren(...s.services.map(v => {
    const tr = make('tr');
    tr.append(make('td', '', v.name), make('td', '', v.listen), make('td', '', v.backend),
      make('td', v.up ? 'good' : 'bad', v.up ? 'up' : `down${v.reason ? ': ' + v.reason : ''}`),
      make('td', 'n', number(v.buckets)), make('td', 'n', number(v.flows)));
    return tr;
  }));
}

function warnings(s) {
  const box = $('warnings'), list = box.querySelector('ul');
  box.hidden = !s.warnings.length;
  if ([...list.children].map(li => li.textContent).join('\n') !== s.warnings.join('\n'))
    list.replaceChildren(...s.warnings.map(w => make('li', '', w)));
}

function news(s) {
  const box = $('news');
  box.hidden = !(s.news || []).length;
  if (!box.hidden && box.textContent !== s.news.join('; ')) box.textContent = s.news.join('; ');
}

function counters(s) {
  const rows = Object.entries(s.verdicts).filter(([, n]) => n).sort((a, b) => b[1] - a[1]);
  $('counters').querySelector('tbody').replaceChildren(...rows.map(([name, n]) => {
    const tr = make('tr');
    tr.append(make('td', '', name), make('td', 'n', number(n)));
    return tr;
  }));
}

async function look() {
  try {
    const s = { nodes: [], services: [], warnings: [], vips: [], verdicts: {} };
    for (const [k, v] of Object.entries(await ask('v1/status?table=1'))) if (v !== null) s[k] = v;
    login(false);
    trouble(s.version === version ? refused : `This page is of another version than the daemon, which is onevoice ${s.version} now: load the page anew.`);
    document.title = `${s.warnings.length ? '! ' : ''}${s.cluster}`;
    $('cluster').textContent = s.cluster;
    $('whoami').textContent = `seen by ${s.node}, ${s.leased ? 'which may answer' : 'which may not answer now'}, up ${time(s.uptime_seconds)}`;
    $('logout').hidden = !s.may_change;
    $('version').textContent = `onevoice ${s.version} · ${s.vips.map(v => v.address).join(', ')}`;
    warnings(s); news(s); ring(s); nodes(s); services(s); counters(s);
  } catch (e) {
    if (e.message) trouble(e.message);
  }
}

// chart draws one series of the last hour, newest at the right.
function chart(id, h, of, shown) {
  const svg = $(id), points = h.samples.map(of), top = Math.max(...points, 1e-9);
  $(`${id}-now`).textContent = points.length ? `${shown(points[points.length - 1])}${top > 1e-9 ? ` · most ${shown(Math.max(...points))}` : ''}` : '';
  const last = h.samples.length ? h.samples[h.samples.length - 1].at : 0;
  const line = h.samples.map((s, i) => `${(600 - (last - s.at) / 6).toFixed(1)} ${(97 - 92 * points[i] / top).toFixed(1)}`);
  if (!line.length) return svg.replaceChildren();
  const first = line[0].split(' ')[0];
  svg.replaceChildren(drawn('path', { class: 'area', d: `M${first} 100L${line.join('L')}L600 100Z` }), drawn('path', { class: 'stroke', d: `M${line.join('L')}` }));
}

async function remember() {
  try {
    const h = await ask('v1/history');
    chart('flows', h, s => s.flows, number);
    chart('new', h, s => s.new_flows, n => `${number(n)}/s`);
    chart('up', h, s => s.bytes_up, n => `${bytes(n)}/s`);
    chart('down', h, s => s.bytes_down, n => `${bytes(n)}/s`);
    $('events').querySelector('ol').replaceChildren(...h.events.map(e => {
      const li = make('li'), at = make('time', '', new Date(e.at * 1000).toLocaleTimeString('en-GB'));
      at.dateTime = new Date(e.at * 1000).toISOString();
      li.append(at, make('span', e.level === 'info' ? '' : e.level, e.text));
      return li;
    }));
  } catch (e) { /* look tells */ }
}

$('table').addEventListener('change', look);
$('login').addEventListener('submit', async event => {
  event.preventDefault();
  try {
    await send('POST', 'v1/session', { token: $('token').value.trim() });
    $('token').value = '';
    trouble('');
    login(false);
    look(); remember();
  } catch (e) { trouble(e.message); }
});
$('logout').addEventListener('click', async () => { await send('DELETE', 'v1/session'); login(true); });

look(); remember();
setInterval(look, 2000);
setInterval(remember, 5000);
