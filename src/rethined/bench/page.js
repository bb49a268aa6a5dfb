'use strict';
for (const article of document.querySelectorAll('article')) {
  const judged = article.dataset.judged;
  const panels = new Map([...article.querySelectorAll('figure')].map((f) => [f.dataset.label, f.querySelector('img')]));
  const slider = document.createElement('div'), stage = document.createElement('div');
  const under = new Image(), over = new Image(), line = document.createElement('i');
  const range = document.createElement('input'), choices = document.createElement('div');
  slider.className = 'slider'; stage.className = 'stage'; over.className = 'over';
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
  const sides = [['left', over, 'original'], ['right', under, judged]];
  for (const [side, image, first] of sides) {
    const choice = document.createElement('div'), buttons = [];
    choice.className = 'choice'; choice.append(side + ':');
    const show = (label) => {
      image.src = panels.get(label).src; image.alt = label;
      for (const button of buttons) button.setAttribute('aria-pressed', button.textContent === label);
    };
    for (const label of panels.keys()) {
      if (label === 'where') continue;
      const button = document.createElement('button');
      button.type = 'button'; button.textContent = label;
      button.addEventListener('click', () => show(label));
      buttons.push(button); choice.append(button);
    }
    show(first); choices.append(choice);
  }
  stage.append(under, over, line);
  slider.append(stage, range, choices);
  article.querySelector('.about').prepend(slider);
  move();
}
