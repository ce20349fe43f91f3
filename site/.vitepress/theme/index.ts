/** VitePress's own theme with system fonts, and room for wide tables and drawings. */
import Theme from 'vitepress/theme-without-fonts';
import './style.css';

export default Theme;
