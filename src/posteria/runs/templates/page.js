const all = query => [...document.querySelectorAll(query)];
const views = all('.views > li'), slide = document.querySelector('.slide input');
const show = k => {
  views.forEach((view, i) => view.classList.toggle('on', i === k));
  all('[data-view]').forEach(button => button.classList.toggle('on', +button.dataset.view === k));
  slide.value = k;
  slide.setAttribute('aria-valuetext', views[k].dataset.name);
};
if (views.length) {
  document.documentElement.classList.add('js');
  all('[data-view]').forEach(button => {
    const image = button.querySelector('img'), view = views[+button.dataset.view];
    if (image) image.src = view.querySelector('img').src;
    button.addEventListener('click', () => {
      show(+button.dataset.view);
      document.querySelector('.views').scrollIntoView({block: 'nearest'});
    });
  });
  slide.addEventListener('input', () => show(+slide.value));
  show(+slide.dataset.start);
}
const hint = () => all('.wide, .strips, .trace div').forEach(box => box.classList.toggle('over', box.scrollWidth > box.clientWidth + 1));
addEventListener('resize', hint);
all('details').forEach(part => part.addEventListener('toggle', hint));
hint();
