'use strict';
for (const article of document.querySelectorAll('article')) {
  const judged = article.dataset.judged;
  const panels = new Map([...article.querySelectorAll('figure')].map((f) => [f.dataset.label, f.querySelector('img')]));
  const slider = document.createElement('div'), stage = document.createElement('div');
  const under = new Image(), over = new Image(), line = document.createElement('i');
  const range = document.createElement('input'), choice = document.createElement('div');
  slider.className = 'slider'; stage.className = 'stage'; over.className = 'over'; choice.className = 'choice';
  range.type = 'range'; range.min = 0; range.max = 1000; range.value = 500;
  range.setAttribute('aria-label', 'before and after');
  const move = () => stage.style.setProperty('--at', range.value / 10 + '%');
  range.addEventListener('input', move);
  const drag = (event) => {
    if (!event.buttons) return;
    const box = stage.getBoundingClientRect();
    range.value = 1000 * (event.clientX - box.left) / box.width;
    move();
  };
  stage.addEventListener('pointerdown', (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener('pointermove', drag);
  under.src = panels.get(judged).src; under.alt = judged;
  const buttons = [];
  const show = (label) => {
    over.src = panels.get(label).src; over.alt = label;
    for (const button of buttons) button.setAttribute('aria-pressed', button.textContent === label);
  };
  choice.append('left:');
  for (const label of panels.keys()) {
    if (label === judged || label === 'where') continue;
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = label;
    button.addEventListener('click', () => show(label));
    buttons.push(button); choice.append(button);
  }
  choice.append('right: ' + judged);
  stage.append(under, over, line);
  slider.append(stage, range, choice);
  article.querySelector('.about').prepend(slider);
  move(); show('original');
}
